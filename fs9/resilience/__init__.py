"""Small state machines against failure, pure: they are given the time and read no clock."""
