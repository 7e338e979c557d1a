"""What keeps foreign text, code and accidents from doing harm: safe text, child processes, whole-or-absent files."""
