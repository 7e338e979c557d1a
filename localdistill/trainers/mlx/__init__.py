"""The backend that computes in MLX: on Apple's GPUs, and on the CPU of Linux."""
