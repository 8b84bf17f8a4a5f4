"""Check a corpus: find what is wrong with it, report it, and write manifests without it.

manifests ─examination─▶ cases ─listening─▶ facts of files and sounds ─checks─▶ findings ─report─▶ table, JSON, HTML
                                │
                                ├ containers  whether FLAC and Ogg files are complete
                                └ matching    how well a model aligns the texts
"""
