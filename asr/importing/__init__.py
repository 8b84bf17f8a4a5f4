"""Convert your own recordings and texts, in any common layout, to manifests.

folder, table, data set ─sources─▶ candidates ─cutting─▶ utterances ─utterances─▶ train, dev, test and problems.txt
                           │
                           ├ tables        CSV, TSV, JSON lines
                           ├ segments      TextGrid, and with `subtitles` SRT and WebVTT
                           └ hugging_face  Arrow and Parquet
"""
