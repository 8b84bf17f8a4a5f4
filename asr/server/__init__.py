"""A server for recordings and live speech: OpenAI's transcriptions over HTTP, Vosk's protocol, and a page.

client ─access─▶ application ─transcriptions─▶ uploads ─▶ sound ─▶ workers ─▶ recogniser ─▶ answers
                     │                                                          ▲
                     └────────live─────────── blocks of samples ────────────────┘
"""
