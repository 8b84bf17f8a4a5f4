"""Files on a disk or behind a URL: read with limits, written whole, locked, cached."""
