//! One streamed write that goes to every member of a set.

use bytes::Bytes;
use futures::future::join_all;
use store::Upload;

use crate::Error;

/// A streamed write to every member.
#[derive(Debug)]
pub struct Uploads(Vec<Box<dyn Upload>>);

impl Uploads {
    pub(crate) fn new(uploads: Vec<Box<dyn Upload>>) -> Self {
        Self(uploads)
    }

    /// Appends bytes in every member.
    ///
    /// # Errors
    /// When a member fails; the upload is then lost and should be aborted.
    pub async fn write(&mut self, bytes: &Bytes) -> Result<(), Error> {
        for written in join_all(self.0.iter_mut().map(|upload| upload.write(bytes.clone()))).await {
            written?;
        }
        Ok(())
    }

    /// Makes the object appear in every member, complete and durable.
    ///
    /// # Errors
    /// When a member fails.
    pub async fn finish(self) -> Result<(), Error> {
        for finished in join_all(self.0.into_iter().map(Upload::finish)).await {
            finished?;
        }
        Ok(())
    }

    /// Gives up in every member.
    ///
    /// # Errors
    /// When a member could not clean up; nothing is visible all the same.
    pub async fn abort(self) -> Result<(), Error> {
        for aborted in join_all(self.0.into_iter().map(Upload::abort)).await {
            aborted?;
        }
        Ok(())
    }
}
