"""What every room needs: errors, configuration, files, seeds, devices, packed batches, decisions."""
