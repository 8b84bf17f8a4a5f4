"""Where and how arrays are computed: devices, number formats, recurrent cells, compiled code."""
