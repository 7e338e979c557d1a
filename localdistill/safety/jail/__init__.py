"""The jail in which programs of models run: the one place where such code is ever executed."""
