package remote

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/double"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/vectors/segment"
)

// TestOverHTTP: signed requests to a service that checks what S3 checks.
func TestOverHTTP(t *testing.T) {
	service, err := double.Open(double.Config{AccessKey: s3client.AccessKey, SecretKey: s3client.SecretKey, Strict: true, Dir: filepath.Join(testkit.MemoryDir(t), "double"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(service)
	config := cold.Config{}
	config.SetDefaults()
	config.URL, config.AccessKey, config.SecretKey = server.URL, s3client.AccessKey, s3client.SecretKey
	upstream, err := cold.New(config, cold.PoolConfig{PoolSize: 4, IdleTimeoutSecs: 10}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		err := upstream.Close()
		server.Close()
		if err := errors.Join(err, service.Close()); err != nil {
			t.Error(err)
		}
	})
	if _, err := Open(t.Context(), options(upstream, "one")); err == nil {
		t.Fatal("the bucket need not exist")
	}
	resp, err := upstream.Do(t.Context(), &cold.Request{Op: "CreateBucket", Method: "PUT", Key: akigw.Key{Bucket: "bucket"}, Header: map[string][]string{}})
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	r := open(t, upstream, "one")
	var c collection
	var all []segment.Part
	for seq := range uint64(5) {
		all = append(all, upload(t, r, segment.Delta, seq+1))
		if err := c.commit(t, r, all...); err != nil {
			t.Fatal(err)
		}
	}
	old := c
	old.etag = `"00000000000000000000000000000000"`
	if err := old.commit(t, r, all...); !errors.Is(err, ErrStale) {
		t.Errorf("a commit over another manifest: %v", err)
	}
	got, err := open(t, upstream, "one").LoadManifest(t.Context(), where, nil)
	if err != nil || !bytes.Equal(got.Document, c.document) || got.ETag != c.etag {
		t.Fatalf("%+v, %v", got, err)
	}
	r = open(t, upstream, "one")
	for _, p := range all {
		opened, err := r.OpenPart(t.Context(), got.Manifest, p, nil)
		if err := errors.Join(err, closeAll(opened)); err != nil {
			t.Error(err)
		}
	}
	if done, err := r.Sweep(t.Context(), live()); err != nil || done.Removed != 2 || done.Unknown != 0 {
		t.Errorf("%+v, %v", done, err)
	}
	if err := r.DropCollection(t.Context(), where); err != nil {
		t.Error(err)
	}
	if _, err := r.LoadManifest(t.Context(), where, nil); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
}
