"""What may be wrong with the machine or with a lab that runs: `lab doctor`."""
