"""The command `fs9`: serve files, look at them, move them."""
