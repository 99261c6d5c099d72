"""Samplers and sigma schedules in k-diffusion's form. Know a denoiser, and no network."""
