"""What a diffusion model is trained for, and how it is sampled from."""
