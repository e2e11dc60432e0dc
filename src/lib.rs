//! krea
