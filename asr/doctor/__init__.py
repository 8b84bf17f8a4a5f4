"""Check a corpus: find faults, report them, and write manifests without the faulty lines.

manifests ─examination─▶ cases ─listening─▶ facts of files and sounds ─checks─▶ findings ─report─▶ table, JSON, HTML
                                │
                                ├ containers  whether FLAC and Ogg files are complete
                                └ matching    how well a model aligns the texts
"""
