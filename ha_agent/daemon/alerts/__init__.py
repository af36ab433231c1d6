"""What is told to people, and when: the book of alerts, its delivery, the watch over programs' lives."""
