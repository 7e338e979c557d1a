"""Money: prices, and the ledger of paid calls that a cap holds to."""
