"""supervisord's parser as a process: what its interpreter need not have."""

from __future__ import annotations

import subprocess
import sys

LOOK_AT_ALL = """
import sys

class Without:
    def find_spec(self, name, path=None, target=None):
        if name == "pkg_resources":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Without())
import ha_agent.conf_check
print(sum(hasattr(module, "__file__") for module in list(sys.modules.values())))
"""


def test_looking_through_all_modules_imports_none_that_is_not_there() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK_AT_ALL], capture_output=True, text=True)
    assert done.returncode == 0 and int(done.stdout) > 50, done.stderr
