"""Where calibration tokens come from; one file each."""
