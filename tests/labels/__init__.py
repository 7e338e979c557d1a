"""What labels measure beyond their samples."""
