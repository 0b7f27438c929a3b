"""The tool's own image, and the programs in it: what needs nothing inside the hosts that it is used on."""
