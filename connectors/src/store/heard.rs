//! A bucket for readers that are async themselves: they give up a silent store as everybody does.

use super::silence::Silence;
use async_trait::async_trait;
use futures::stream::{BoxStream, try_unfold};
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::fmt;
use std::sync::Arc;

/// Objects of which it is noticed when they are silent.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) objects: Arc<dyn ObjectStore>,
    pub(super) silence: Arc<Silence>,
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.objects.fmt(f)
    }
}

impl Heard {
    fn each<T: Send + 'static>(
        &self,
        answers: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let silence = Arc::clone(&self.silence);
        try_unfold((answers, silence), async |(mut answers, silence)| {
            let next = silence.ask(answers.try_next()).await?;
            Ok(next.map(|next| (next, (answers, silence))))
        })
        .boxed()
    }
}

#[async_trait]
impl ObjectStore for Heard {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        let put = self.objects.put_opts(location, payload, options);
        self.silence.ask(put).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let put = self.objects.put_multipart_opts(location, options);
        self.silence.ask(put).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let got = self.objects.get_opts(location, options);
        let mut got = self.silence.ask(got).await?;
        got.payload = match got.payload {
            GetResultPayload::Stream(bytes) => GetResultPayload::Stream(self.each(bytes)),
            file @ GetResultPayload::File(..) => file,
        };
        Ok(got)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.each(self.objects.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.each(self.objects.list(prefix))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let listed = self.objects.list_with_delimiter(prefix);
        self.silence.ask(listed).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let copied = self.objects.copy_opts(from, to, options);
        self.silence.ask(copied).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;
    use crate::store::wait::wait;
    use object_store::ObjectStoreExt as _;
    use object_store::memory::InMemory;
    use object_store::throttle::{ThrottleConfig, ThrottledStore};
    use std::time::{Duration, Instant};

    const LONG: Duration = Duration::from_secs(60);

    /// What comes of an object, and of a listing, of a store that is so slow.
    fn read(config: ThrottleConfig) -> [Result<()>; 2] {
        let objects = InMemory::new();
        let path = Path::from("a");
        wait(objects.put(&path, "content".into())).unwrap().unwrap();
        let heard = Heard {
            objects: Arc::new(ThrottledStore::new(objects, config)),
            silence: Arc::new(Silence::of(Duration::from_millis(300))),
        };
        let read = async { heard.get(&path).await?.bytes().await.map(drop) };
        let list = async { heard.list(None).try_collect::<Vec<_>>().await.map(drop) };
        [wait(read).unwrap(), wait(list).unwrap()]
    }

    #[test]
    fn a_silent_store_is_given_up() {
        assert!(read(ThrottleConfig::default()).iter().all(Result::is_ok));
        let begun = Instant::now();
        for config in [
            ThrottleConfig {
                wait_get_per_call: LONG,
                wait_list_per_call: LONG,
                ..ThrottleConfig::default()
            },
            ThrottleConfig {
                wait_get_per_byte: LONG,
                wait_list_per_entry: LONG,
                ..ThrottleConfig::default()
            },
        ] {
            for silent in read(config) {
                let error = silent.unwrap_err();
                let told = StoreError::silent_in(&error, "s3://b").expect("it is silent");
                assert!(
                    told.to_string()
                        .contains("\"s3://b\": the store has answered nothing")
                );
            }
        }
        assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
    }
}
