"""The terminal UI: the whole chain, one screen at a time. It talks to localdistill's public API only, starts nothing
that would end with it, and shows text of models as data."""
