//! Prompt cleaning, tokenizer and the UMT5 encoder.
