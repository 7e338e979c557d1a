"""The terminal UI: the whole chain, a screen at a time. It imports the names of `localdistill` itself (its public API)
and textual only, starts nothing that would end with it, and shows text of models as data."""
