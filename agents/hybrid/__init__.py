"""The hybrid agent: bits that follow the image, learned jointly with the quantised weights."""
