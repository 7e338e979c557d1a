"""The backend that computes in torch."""
