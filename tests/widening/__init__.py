"""Members that nobody has yet, one of each kind that the contracts were made for. A test adds each of them to a copy of
the tree, as one file and one line, and runs there what every member owes."""
