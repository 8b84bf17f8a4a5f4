"""CTC models of others: folders of Hugging Face, ONNX exports, torchaudio's bundles; `loading` tells them apart."""
