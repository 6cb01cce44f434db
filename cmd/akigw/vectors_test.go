package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/doctor"
	"github.com/akidb/akigw/internal/double"
	"github.com/akidb/akigw/server"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/vectors/store"
)

// TestCollectionsOf: the URLs of vector collections.
func TestCollectionsOf(t *testing.T) {
	for text, want := range map[string]string{
		"s3vectors://bucket": "bucket|", "s3vectors://bucket/": "bucket|", "s3vectors://bucket/index": "bucket|index",
		"s3vectors://": "", "s3vectors:///index": "", "s3vectors://bucket/index/more": "",
	} {
		bucket, index, err := collectionsOf(text)
		if got := bucket + "|" + index; (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	if _, _, err := s3URL("s3vectors://bucket/index"); err == nil || !strings.Contains(err.Error(), "akigw vectors") {
		t.Errorf("as objects: %v", err)
	}
}

// TestVectorsShown: what is printed about collections, who has them, and what is left at shutdown.
func TestVectorsShown(t *testing.T) {
	row := fmt.Sprintln(collectionColumns(store.Status{Bucket: "b", Index: "i", Tier: store.Cold, Vectors: -1, Dimension: 4, Rows: 3, Pending: 2048, Degraded: "objects are lost"})...)
	for _, want := range []string{"b/i", "cold", "unknown", "3 (2.0 KiB)", "read-only: objects are lost"} {
		if !strings.Contains(row, want) {
			t.Errorf("no %q in %s", want, row)
		}
	}
	for _, c := range []struct {
		name  string
		owner store.Owner
		want  string
	}{
		{"ours", store.Owner{Gateway: "gw-1", Writer: "gw-1", Epoch: 3, Since: time.Now()}, "this gateway (gw-1) has the prefix"},
		{"another's", store.Owner{Gateway: "gw-1", Writer: "gw-2", Epoch: 3}, "akigw vectors takeover"},
		{"unknown", store.Owner{Gateway: "gw-1"}, "not confirmed"},
	} {
		var out strings.Builder
		printOwner(&out, &admin.Vectors{Owner: c.owner, Totals: store.Totals{Collections: 2, Hot: 1, Cold: 1, Pending: 7}})
		if !strings.Contains(out.String(), c.want) || !strings.Contains(out.String(), "2 collections: 1 hot") || !strings.Contains(out.String(), "7 vectors") {
			t.Errorf("%s: %s", c.name, out.String())
		}
	}
	for want, p := range map[string]server.Pending{
		"uploading acknowledged writes: 2 left (1.0 KiB)":            {Writes: 2, Bytes: 1024},
		"uploading acknowledged writes: 0 left, 9 vectors (1.0 KiB)": {Vectors: 9, Bytes: 1024},
	} {
		if got := drainLine(p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestDoctorChecksTheVectorBucket: the bucket has to exist and to honour conditional writes.
func TestDoctorChecksTheVectorBucket(t *testing.T) {
	const access, secret = "AKIDDOCTOR", "the-secret-of-the-doctor"
	s, err := double.Open(double.Config{AccessKey: access, SecretKey: secret, Region: "us-east-1", Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, c := range []struct {
		name     string
		create   bool
		careless bool // conditions are ignored
		level    doctor.Level
		want     string
	}{
		{"no bucket", false, false, doctor.Problem, "collections"},
		{"all is well", true, false, doctor.OK, "no gateway has the prefix"},
		{"no conditional writes", true, true, doctor.Problem, "cannot keep vector collections"},
	} {
		web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !c.careless || r.Method != http.MethodPut {
				s.ServeHTTP(w, r)
				return
			}
			answer := httptest.NewRecorder()
			s.ServeHTTP(answer, r)
			if answer.Code == http.StatusPreconditionFailed {
				w.Header().Set("Etag", `"0123456789abcdef0123456789abcdef"`)
				return
			}
			maps.Copy(w.Header(), answer.Header())
			w.WriteHeader(answer.Code)
			_, _ = answer.Body.WriteTo(w)
		}))
		conf, err := server.Load("", []string{"AKIGW_UPSTREAM=" + web.URL, "AKIGW_UPSTREAM_ACCESS_KEY=" + access, "AKIGW_UPSTREAM_SECRET_KEY=" + secret, "AKIGW_VECTORS_BUCKET=collections"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.create {
			if err := createBucket(t.Context(), conf, "collections"); err != nil {
				t.Fatal(err)
			}
		}
		var r doctor.Report
		vectorBucket(t.Context(), &r, conf)
		var out strings.Builder
		if err := r.WriteText(&out); err != nil || r.Count(c.level) != 1 || !strings.Contains(out.String(), c.want) {
			t.Errorf("%s: %s", c.name, out.String())
		}
		web.Close()
	}
}

// createBucket creates a bucket in the upstream of a configuration.
func createBucket(ctx context.Context, c *server.Config, name string) error {
	client, err := cold.New(c.Upstream, c.Storage.Pool, nil)
	if err != nil {
		return err
	}
	defer client.Close()
	resp, err := client.Do(ctx, &cold.Request{Op: "CreateBucket", Method: http.MethodPut, Key: akigw.Key{Bucket: name}})
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close())
}
