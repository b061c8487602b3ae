//! Embeddings of many documents as one safetensors file, for other programs.

use std::io::{self, Write};

use serde_json::{Value, json};
use soma_model::Weights;

/// Embeddings of documents under one model.
#[derive(Debug)]
pub struct Embeddings {
    weights_hash: [u8; 32],
    architecture: String,
    dim: usize,
    names: Vec<String>,
    /// `[documents, dim]`.
    rows: Vec<i16>,
}

impl Embeddings {
    /// No embeddings yet, of this model.
    pub fn new(weights: &Weights) -> Self {
        let architecture = weights.architecture();
        Self {
            weights_hash: weights.hash(),
            architecture: architecture.to_json(),
            dim: architecture.dim as usize,
            names: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Adds a document.
    ///
    /// # Panics
    /// If the embedding is not one of the model.
    pub fn push(&mut self, name: String, embedding: &[i16]) {
        assert_eq!(embedding.len(), self.dim, "an embedding has the model's width");
        self.names.push(name);
        self.rows.extend(embedding);
    }

    /// Number of documents.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Writes a safetensors file: the tensor `embeddings`, I16 of the shape `[documents, dim]`. Its
    /// metadata has `files`, a list of names in JSON, `weights_hash` and `architecture`.
    ///
    /// # Errors
    /// If writing fails.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let header = json!({
            "__metadata__": {
                "architecture": self.architecture,
                "files": Value::from(self.names.as_slice()).to_string(),
                "weights_hash": hex::encode(self.weights_hash),
            },
            "embeddings": {
                "dtype": "I16",
                "shape": [self.len(), self.dim],
                "data_offsets": [0, self.rows.len() * 2],
            },
        });
        let mut header = header.to_string();
        while !header.len().is_multiple_of(8) {
            header.push(' ');
        }
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        for row in self.rows.chunks(self.dim) {
            out.write_all(&row.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}
