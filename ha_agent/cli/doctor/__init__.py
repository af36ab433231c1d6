"""The checks of ``ha-agent doctor``. Each yields findings and changes nothing."""
