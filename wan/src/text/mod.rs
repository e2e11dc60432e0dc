//! Prompt to embeddings: cleaning, tokenizer and the UMT5 encoder.

mod clean;
mod entities;
mod tokenizer;
mod umt5;

pub use clean::clean_prompt;
pub use entities::unescape_html;
pub use tokenizer::Tokenizer;
pub use umt5::{Umt5, Umt5Constants, relative_bucket};
