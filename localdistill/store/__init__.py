"""The store: prompts, traces, grades and what follows from them, in one DuckDB file per workspace. The only package
that knows the database."""

from localdistill.store.journals import CatchUp, Lack
from localdistill.store.keeper import Added
from localdistill.store.selections import Selection
from localdistill.store.store import Store, StoreCounts, StoredTraces
from localdistill.store.view import SearchHit

__all__ = ["Added", "CatchUp", "Lack", "SearchHit", "Selection", "Store", "StoreCounts", "StoredTraces"]
