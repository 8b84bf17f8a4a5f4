"""One module per public corpus: from its publisher's files to manifests."""

# What `asr-data prepare` takes: modules with a function `prepare(*, source, output, progress)`, and perhaps `Options`.
CORPORA = (
    "aishell",
    "an4",
    "commonvoice",
    "fsdd",
    "kaldi",
    "librispeech",
    "ljspeech",
    "mini_librispeech",
    "mls",
    "speechcommands",
    "tedlium3",
    "thchs30",
    "timit",
    "vctk",
    "yesno",
)
