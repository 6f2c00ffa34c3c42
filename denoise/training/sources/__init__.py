"""What training learns from: clean pictures, spoilt pairs, noisy images alone, cubes."""
