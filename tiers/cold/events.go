package cold

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/notification"

	"github.com/akidb/akigw"
)

// EventSource is the way in which an upstream reports changes of its objects.
type EventSource string

// The event sources: Config.Events.
const (
	// Stream is MinIO's ListenBucketNotification: the gateway subscribes, and notices when the stream
	// ends.
	Stream EventSource = "stream"
	// Webhook is events that are posted to the admin listener. A lost event goes unnoticed.
	Webhook EventSource = "webhook"
)

// Change is one event: an object was created or removed.
type Change struct {
	// Key has the version id, if there is one.
	Key akigw.Key
	// ETag is the entity tag with its quotes, and Size the size in bytes, of a created object.
	ETag string
	Size int64
	// Removed says that the object was removed.
	Removed bool
}

// record has the fields of an event message ("Event message structure", S3 User Guide) that are used.
type record struct {
	EventName string `json:"eventName"`
	S3        struct {
		Bucket struct {
			Name string `json:"name"`
		} `json:"bucket"`
		Object struct {
			Key       string `json:"key"`
			Size      int64  `json:"size"`
			ETag      string `json:"eTag"`
			VersionID string `json:"versionId"`
		} `json:"object"`
	} `json:"s3"`
}

// ParseEvents parses the event messages of a notification. A test notification has none.
func ParseEvents(document []byte) ([]Change, error) {
	var message struct {
		Records []record `json:"Records"`
	}
	if err := json.Unmarshal(document, &message); err != nil {
		return nil, fmt.Errorf("not an S3 event notification: %w", err)
	}
	changes := make([]Change, 0, len(message.Records))
	for i := range message.Records {
		c, err := message.Records[i].change()
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", i, err)
		}
		changes = append(changes, c)
	}
	return changes, nil
}

func (r *record) change() (Change, error) {
	name, err := url.QueryUnescape(r.S3.Object.Key) // S3 encodes keys in events
	switch {
	case err != nil:
		return Change{}, fmt.Errorf("the key %q is not encoded as in a URL: %w", r.S3.Object.Key, err)
	case r.S3.Bucket.Name == "" || name == "":
		return Change{}, errors.New("no bucket or no key")
	}
	version := r.S3.Object.VersionID
	if version == "null" {
		version = ""
	}
	return Change{
		Key:  akigw.Key{Bucket: r.S3.Bucket.Name, Name: name, Version: version},
		ETag: `"` + strings.Trim(r.S3.Object.ETag, `"`) + `"`, Size: r.S3.Object.Size,
		Removed: strings.Contains(r.EventName, "ObjectRemoved:"),
	}, nil
}

// Events is how changes of a bucket are reported, "" if they are not.
func (us *Upstreams) Events(bucket string) EventSource {
	return EventSource(us.of(bucket).config.Events)
}

// Listen follows the notifications of a bucket until the stream ends; the error says why. alive is
// called when the stream has begun, and for each keep-alive after that; changed is called for each
// change. They are not called concurrently.
func (us *Upstreams) Listen(ctx context.Context, bucket string, alive func(), changed func(Change)) error {
	return us.of(bucket).listen(ctx, bucket, alive, changed)
}

const errStreamEnded = akigw.Error("the stream of events ended")

func (u *Upstream) listen(ctx context.Context, bucket string, alive func(), changed func(Change)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	client, err := minio.New(u.base.Host, &minio.Options{
		Creds: credentials.New(provider{u.keyring}), Secure: u.base.Scheme == "https", Region: u.config.Region, BucketLookup: minio.BucketLookupPath, MaxRetries: 1,
		// minio-go would reopen a stream that has ended, and events missed in between would go
		// unnoticed.
		Transport: &tap{u.transport, alive, func() { cancel(errStreamEnded) }},
	})
	if err != nil {
		return fmt.Errorf("events of %s: %w", bucket, err)
	}
	// MinIO counts changes of tags and of retention among ObjectCreated.
	infos := client.ListenBucketNotification(ctx, bucket, "", "", []string{"s3:ObjectCreated:*", "s3:ObjectRemoved:*"})
	defer u.work.Go(func() { // it sleeps before it notices the end
		for range infos {
		}
	})
	for {
		select {
		case info, more := <-infos:
			switch {
			case info.Err != nil:
				err = info.Err
			case !more:
				err = cmp.Or[error](context.Cause(ctx), errStreamEnded)
			default:
				err = each(info.Records, changed)
			}
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		if err != nil {
			cancel(err)
			return fmt.Errorf("events of %s: %w", bucket, err)
		}
	}
}

func each(events []notification.Event, changed func(Change)) error {
	for i := range events {
		c, err := recordOf(&events[i]).change()
		if err != nil {
			return err
		}
		changed(c)
	}
	return nil
}

func recordOf(e *notification.Event) *record {
	r := &record{EventName: e.EventName}
	r.S3.Bucket.Name = e.S3.Bucket.Name
	o := &r.S3.Object
	o.Key, o.Size, o.ETag, o.VersionID = e.S3.Object.Key, e.S3.Object.Size, e.S3.Object.ETag, e.S3.Object.VersionID
	return r
}

// tap observes each piece of a successful response as it arrives, and its end.
type tap struct {
	http.RoundTripper
	alive func()
	ended func()
}

// RoundTrip implements http.RoundTripper.
func (t *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	t.alive()
	resp.Body = &tapped{resp.Body, t}
	return resp, nil
}

type tapped struct {
	io.ReadCloser
	tap *tap
}

func (b *tapped) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.tap.alive()
	}
	if err != nil {
		b.tap.ended()
	}
	return n, err
}
