package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/doctor"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/writeback/facts"
)

// faultyS3 is an S3 service with one fault.
type faultyS3 struct {
	deny         string // method that is refused
	error        string // error code of every response
	more         string // further elements of the error document
	page         bool   // it responds with a web page
	skew         time.Duration
	noConditions bool
	noTrailers   bool
	frames       bool // it stores aws-chunked frames
	oddETags     bool
	objects      map[string][]byte
}

func (a *faultyS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Date", time.Now().Add(a.skew).UTC().Format(http.TimeFormat))
	refuse := func(status int, code string) {
		w.WriteHeader(status)
		fmt.Fprintf(w, "<Error><Code>%s</Code>%s</Error>", code, a.more)
	}
	query := r.URL.Query()
	switch {
	case a.page:
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!DOCTYPE html><html></html>")
	case a.error != "":
		refuse(http.StatusForbidden, a.error)
	case r.URL.Path == "/":
		fmt.Fprint(w, "<ListAllMyBucketsResult></ListAllMyBucketsResult>")
	case !strings.HasPrefix(r.URL.Path, "/bucket"):
		refuse(http.StatusNotFound, "NoSuchBucket")
	case query.Has("versioning"):
		fmt.Fprint(w, "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
	case query.Has("list-type"):
		fmt.Fprint(w, "<ListBucketResult></ListBucketResult>")
	case r.Method == a.deny && (r.Method != http.MethodDelete || !query.Has("uploadId")):
		refuse(http.StatusForbidden, "AccessDenied")
	case query.Has("uploads"):
		fmt.Fprint(w, "<InitiateMultipartUploadResult><UploadId>1</UploadId></InitiateMultipartUploadResult>")
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Trailer") != "" && a.noTrailers:
		refuse(http.StatusNotImplemented, "NotImplemented")
	case r.Method == http.MethodPut:
		if r.Header.Get("X-Amz-Trailer") != "" && !a.frames {
			_, body, _ = bytes.Cut(body, []byte("\r\n"))
			body = body[:len("akigw doctor was here and is going to delete this object")]
		}
		a.objects[r.URL.Path] = body
		w.Header().Set("Etag", a.etag(body))
	case r.Method == http.MethodGet:
		if a.noConditions {
			r.Header = http.Header{}
		}
		body := a.objects[r.URL.Path]
		w.Header().Set("Etag", a.etag(body))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
	case r.Method == http.MethodDelete:
		delete(a.objects, r.URL.Path)
		w.WriteHeader(http.StatusNoContent)
	}
}

func (a *faultyS3) etag(body []byte) string {
	sum := md5.Sum(body)
	if a.oddETags {
		sum[0] ^= 1
	}
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// certificate configures a certificate that expires at some time, with its key or that of another one.
func certificate(t *testing.T, dir string, ends time.Time, foreign bool, set func(key, value string)) {
	t.Helper()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	testkit.CertifyUntil(t, cert, key, "s3.example.com", ends, "s3.example.com")
	if foreign {
		testkit.CertifyUntil(t, filepath.Join(dir, "other.pem"), key, "s3.example.com", ends)
	}
	set("AKIGW_TLS_CERT", cert)
	set("AKIGW_TLS_KEY", key)
}

// TestDoctorFindsPlantedProblems: each planted problem is found, at its level and with its remedy. A
// healthy machine and upstream have none.
func TestDoctorFindsPlantedProblems(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, c := range []struct {
		name     string
		faultyS3 *faultyS3
		plant    func(t *testing.T, dir string, set func(key, value string)) // in an empty directory
		check    string
		level    doctor.Level
		remedy   string
	}{
		{name: "all is well", faultyS3: &faultyS3{}, level: doctor.OK},
		{name: "unknown setting", plant: func(t *testing.T, dir string, set func(key, value string)) {
			set("AKIGW_CONFIG", writeFile(t, dir, "a.toml", "[cache]\nhot_byte = 1\n", 0o600))
		}, check: "config", level: doctor.Problem, remedy: "config explain"},
		{name: "secret for everybody", plant: func(t *testing.T, dir string, set func(key, value string)) {
			set("AKIGW_CONFIG", writeFile(t, dir, "a.toml", "secret_key = \"aaaaaaaaaaaa\"\naccess_key = \"abcd\"\n", 0o644))
		}, check: "config", level: doctor.Problem, remedy: "config explain"},
		{name: "no TOML", plant: func(t *testing.T, dir string, set func(key, value string)) {
			set("AKIGW_CONFIG", writeFile(t, dir, "a.toml", "listen: 1\n", 0o600))
		}, check: "config", level: doctor.Problem, remedy: "print-default"},
		{name: "directory of others", plant: func(t *testing.T, dir string, set func(key, value string)) {
			if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(filepath.Join(dir, "data"), 0o777); err != nil {
				t.Fatal(err)
			}
		}, check: "directory", level: doctor.Problem, remedy: "chmod 700"},
		{name: "no directory", plant: func(t *testing.T, dir string, set func(key, value string)) {
			writeFile(t, dir, "data", "", 0o600)
		}, check: "directory", level: doctor.Problem, remedy: "--data"},
		{name: "files for everybody", plant: func(t *testing.T, dir string, set func(key, value string)) {
			if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
				t.Fatal(err)
			}
			writeFile(t, filepath.Join(dir, "data"), "trial-keys.json", "{}", 0o644)
		}, check: "directory", level: doctor.Warning, remedy: "chmod -R go="},
		{name: "disk too small", plant: func(_ *testing.T, _ string, set func(key, value string)) {
			set("AKIGW_CACHE_WARM_BYTES", "900TiB")
		}, check: "disk space", level: doctor.Warning, remedy: "cache.warm_bytes"},
		{name: "journal in memory", plant: func(t *testing.T, dir string, set func(key, value string)) {
			memory, err := os.MkdirTemp("/dev/shm", "akigw-doctor")
			if err != nil {
				t.Skip("no memory file system here: ", err)
			}
			t.Cleanup(func() { os.RemoveAll(memory) })
			set("AKIGW_DATA", filepath.Join(memory, "data"))
			set("AKIGW_CONFIG", writeFile(t, dir, "a.toml", "[[rule]]\nbucket = \"*\"\nwrite = \"back\"\n", 0o600))
		}, check: "disk space", level: doctor.Problem, remedy: "a disk, with --data"},
		{name: "a bucket that is versioned", plant: func(t *testing.T, dir string, set func(key, value string)) {
			plantFact(t, dir, set, facts.Versioned)
		}, check: "write-back", level: doctor.Warning, remedy: "akigw journal resume backbucket"},
		{name: "a bucket with other ETags", plant: func(t *testing.T, dir string, set func(key, value string)) {
			plantFact(t, dir, set, facts.OtherETags)
		}, check: "write-back", level: doctor.Warning, remedy: `write = "through"`},
		{name: "writes that were refused", plant: func(t *testing.T, dir string, set func(key, value string)) {
			plantFact(t, dir, set, facts.None)
		}, check: "write-back", level: doctor.Note, remedy: "akigw journal resume backbucket --forget"},
		{name: "damaged facts", plant: func(t *testing.T, dir string, set func(key, value string)) {
			plantFact(t, dir, set, facts.None)
			writeFile(t, filepath.Join(dir, "data"), "bucket-facts", "nonsense", 0o600)
		}, check: "write-back", level: doctor.Note, remedy: "sets the file aside"},
		{name: "too little memory", plant: func(_ *testing.T, _ string, set func(key, value string)) {
			set("AKIGW_CACHE_HOT_BYTES", "90TiB")
		}, check: "memory", level: doctor.Problem, remedy: "cache.hot_bytes ="},
		{name: "too few files", plant: func(_ *testing.T, _ string, set func(key, value string)) {
			set("AKIGW_MAX_CONNECTIONS", "2000000000")
		}, check: "open files", level: doctor.Warning, remedy: "ulimit -n"},
		{name: "port in use", plant: func(_ *testing.T, _ string, set func(key, value string)) {
			set("AKIGW_LISTEN", busy.Addr().String())
		}, check: "S3 port", level: doctor.Problem, remedy: "ss -ltnp"},
		{name: "address of another machine", plant: func(_ *testing.T, _ string, set func(key, value string)) {
			set("AKIGW_LISTEN", "192.0.2.1:9000")
			set("AKIGW_ALLOW_PLAINTEXT", "true")
			set("AKIGW_ALLOW_TRIAL_KEYS", "true")
		}, check: "S3 port", level: doctor.Problem, remedy: "ip addr"},
		{name: "certificate is over", plant: func(t *testing.T, dir string, set func(key, value string)) {
			certificate(t, dir, time.Now().Add(-time.Hour), false, set)
		}, check: "TLS", level: doctor.Problem, remedy: "renew"},
		{name: "certificate is nearly over", plant: func(t *testing.T, dir string, set func(key, value string)) {
			certificate(t, dir, time.Now().Add(24*time.Hour), false, set)
		}, check: "TLS", level: doctor.Warning, remedy: "renew"},
		{name: "key of another certificate", plant: func(t *testing.T, dir string, set func(key, value string)) {
			certificate(t, dir, time.Now().Add(999*time.Hour), true, set)
		}, check: "TLS", level: doctor.Problem, remedy: "tls_key its key"},
		{name: "nothing listens upstream", plant: func(_ *testing.T, _ string, set func(key, value string)) {
			set("AKIGW_UPSTREAM", "http://127.0.0.1:1")
		}, check: "upstream", level: doctor.Problem, remedy: "is it running?"},
		{name: "no such host", plant: func(_ *testing.T, _ string, set func(key, value string)) {
			set("AKIGW_UPSTREAM", "http://s3.invalid")
		}, check: "upstream", level: doctor.Problem, remedy: "host name"},
		{name: "HTTP instead of HTTPS", plant: func(t *testing.T, _ string, set func(key, value string)) {
			s := httptest.NewTLSServer(&faultyS3{})
			t.Cleanup(s.Close)
			set("AKIGW_UPSTREAM", strings.Replace(s.URL, "https", "http", 1))
		}, check: "upstream", level: doctor.Problem, remedy: `upstream.url = "https://`},
		{name: "HTTPS instead of HTTP", plant: func(t *testing.T, _ string, set func(key, value string)) {
			s := httptest.NewServer(&faultyS3{})
			t.Cleanup(s.Close)
			set("AKIGW_UPSTREAM", strings.Replace(s.URL, "http", "https", 1))
		}, check: "upstream", level: doctor.Problem, remedy: `upstream.url = "http://`},
		{name: "unknown authority", plant: func(t *testing.T, _ string, set func(key, value string)) {
			s := httptest.NewTLSServer(&faultyS3{})
			t.Cleanup(s.Close)
			set("AKIGW_UPSTREAM", s.URL)
		}, check: "upstream", level: doctor.Problem, remedy: "update-ca-certificates"},
		{name: "web page", faultyS3: &faultyS3{page: true}, check: "upstream", level: doctor.Problem, remedy: "console has another port"},
		{name: "wrong access key", faultyS3: &faultyS3{error: "InvalidAccessKeyId"}, check: "credentials", level: doctor.Problem, remedy: "AKIGW_UPSTREAM_ACCESS_KEY"},
		{name: "wrong secret", faultyS3: &faultyS3{error: "SignatureDoesNotMatch"}, check: "credentials", level: doctor.Problem, remedy: "AKIGW_UPSTREAM_SECRET_KEY"},
		{name: "credentials are over", faultyS3: &faultyS3{error: "ExpiredToken"}, check: "credentials", level: doctor.Problem, remedy: "upstream.credentials"},
		{name: "wrong region", faultyS3: &faultyS3{error: "AuthorizationHeaderMalformed", more: "<Region>eu-west-3</Region>"}, check: "region", level: doctor.Problem, remedy: `upstream.region = "eu-west-3"`},
		{name: "wrong clock", faultyS3: &faultyS3{error: "RequestTimeTooSkewed", skew: 20 * time.Minute}, check: "clock", level: doctor.Problem, remedy: "timedatectl"},
		{name: "slow clock", faultyS3: &faultyS3{skew: -time.Minute}, check: "clock", level: doctor.Warning, remedy: "timedatectl"},
		{name: "no bucket", faultyS3: &faultyS3{}, plant: func(_ *testing.T, _ string, set func(key, value string)) { set("BUCKET", "other") }, check: "bucket", level: doctor.Problem, remedy: "aws s3 mb s3://other"},
		{name: "writing is denied", faultyS3: &faultyS3{deny: "PUT"}, check: "permissions", level: doctor.Problem, remedy: "s3:PutObject"},
		{name: "reading is denied", faultyS3: &faultyS3{deny: "GET"}, check: "permissions", level: doctor.Problem, remedy: "s3:GetObject"},
		{name: "deleting is denied", faultyS3: &faultyS3{deny: "DELETE"}, check: "permissions", level: doctor.Problem, remedy: "s3:DeleteObject"},
		{name: "uploads are denied", faultyS3: &faultyS3{deny: "POST"}, check: "permissions", level: doctor.Problem, remedy: "s3:PutObject"},
		{name: "no conditions", faultyS3: &faultyS3{noConditions: true}, check: "conditions", level: doctor.Problem, remedy: "another service"},
		{name: "no trailing checksums", faultyS3: &faultyS3{noTrailers: true}, check: "checksums", level: doctor.Problem, remedy: "upstream.trailing_checksums = false"},
		{name: "frames are stored", faultyS3: &faultyS3{frames: true}, check: "checksums", level: doctor.Problem, remedy: "upstream.trailing_checksums = false"},
		{name: "ETags are no digests", faultyS3: &faultyS3{oddETags: true}, check: "ETags", level: doctor.Problem, remedy: "cache.md5_etags = false"},
		{name: "old versions are kept", faultyS3: &faultyS3{}, check: "versioning", level: doctor.Note, remedy: "lifecycle"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			d := &doctorCommand{Bucket: "bucket"}
			set := func(key, value string) {
				switch key {
				case "BUCKET":
					d.Bucket = value
				case "AKIGW_CONFIG":
					d.Config = value
				}
				t.Setenv(key, value)
			}
			set("AKIGW_DATA", filepath.Join(dir, "data"))
			set("AKIGW_LISTEN", "127.0.0.1:0")
			set("AKIGW_ADMIN_LISTEN", "127.0.0.1:0")
			set("AKIGW_UPSTREAM_ACCESS_KEY", "upstream-key")
			set("AKIGW_UPSTREAM_SECRET_KEY", "upstream-secret")
			for _, limit := range []string{"CACHE_WARM_BYTES", "WRITE_BACK_MAX_PENDING_BYTES", "SNAPSHOT_MAX_BYTES"} { // this disk has room for them
				set("AKIGW_"+limit, "64MiB")
			}
			if c.faultyS3 != nil {
				c.faultyS3.objects = map[string][]byte{}
				s := httptest.NewServer(c.faultyS3)
				defer s.Close()
				set("AKIGW_UPSTREAM", s.URL)
			}
			if c.plant != nil {
				c.plant(t, dir, set)
			}
			var r doctor.Report
			d.examine(context.Background(), &r, nil)
			if c.level == doctor.OK {
				if r.Count(doctor.Problem)+r.Count(doctor.Warning) > 0 || r.Count(doctor.OK) < 12 {
					t.Errorf("%+v", r.Findings)
				}
			}
			found := c.level == doctor.OK
			for _, f := range r.Findings {
				found = found || f.Check == c.check && f.Level == c.level && strings.Contains(f.Remedy, c.remedy)
				if f.Level == doctor.Problem && f.Check != c.check {
					t.Errorf("a problem besides: %+v", f)
				}
			}
			if !found {
				t.Errorf("not found in %+v", r.Findings)
			}
			if c.faultyS3 != nil && len(c.faultyS3.objects) > 0 && c.faultyS3.deny != "DELETE" {
				t.Errorf("left behind: %v", c.faultyS3.objects)
			}
			if _, err := os.Stat(filepath.Join(dir, "data", "lock")); err == nil {
				t.Error("it made the data directory")
			}
		})
	}
}

// plantFact configures a rule that writes back, and saves a fact about a bucket as a gateway does.
func plantFact(t *testing.T, dir string, set func(key, value string), reason facts.Reason) {
	t.Helper()
	set("AKIGW_CONFIG", writeFile(t, dir, "a.toml", "[[rule]]\nbucket = \"back*\"\nwrite = \"back\"\n", 0o600))
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	book := facts.Open(filepath.Join(dir, "data", "bucket-facts"), slog.New(slog.DiscardHandler))
	id := facts.ID{Bucket: "backbucket"}
	book.SetKind(id, "key backslash", false)
	book.Answer(id, book.Epoch(), reason, time.Now())
	book.Answer(facts.ID{Bucket: "another"}, book.Epoch(), facts.Versioned, time.Now()) // no rule is about it
	if err := book.Save(); err != nil {
		t.Fatal(err)
	}
}

func writeFile(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}
