"""From any sound file, stream or array to samples.

path, URL, pipe ─source─▶ file ─sound_parts─▶ one part per sound ─libsndfile─▶ blocks (n, channels) ─waveform─▶ (N,)
                                  │                                 │                                  │
                                  ├ sound_ends    where it ends     └ c_streams  printf silenced       └ mixing to mono
                                  ├ wav_chunks    all data chunks
                                  ├ mp3_frames    frames, counted             ffmpeg reads the other formats
                                  └ flac_frames   the last frame

`sound_files` joins the parts of a file; `excerpts` reads byte ranges of a file as a file; `waveform` has the public
functions.
"""
