package embedded

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/johannesboyne/gofakes3"
	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
)

// Documents that name keys, which gofakes3 cannot read or write if XML 1.0 cannot hold the key.

const (
	// maxDocument bounds a DeleteObjects document, in bytes.
	maxDocument = 2 << 20
	// maxDeleteKeys is the limit of one DeleteObjects.
	maxDeleteKeys = 1000
	// maxUploads is the largest page of ListMultipartUploads.
	maxUploads = 1000
)

// deleteResult is the answer to DeleteObjects.
type deleteResult struct {
	XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
	Deleted []struct{ Key s3xml.Text }
	Error   []deleteError
}

type deleteError struct {
	Key           s3xml.Text
	Code, Message string
}

// deleteObjects answers DeleteObjects.
func (s *Server) deleteObjects(w http.ResponseWriter, r *http.Request, bkt string) error {
	if exists, err := s.backend.BucketExists(bkt); err != nil {
		return err
	} else if !exists {
		return noSuchBucket.About("BucketName", bkt)
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxDocument))
	if err != nil {
		return err
	}
	var request struct {
		Object []struct {
			Key                          string
			VersionID                    string `xml:"VersionId"`
			ETag, LastModifiedTime, Size *string
		}
		Quiet bool
	}
	if s3xml.UnmarshalStrict(body, "Delete", &request) != nil || len(request.Object) == 0 || len(request.Object) > maxDeleteKeys {
		return s3err.MalformedXML
	}
	names := make([]string, len(request.Object))
	for i, o := range request.Object {
		switch {
		case o.Key == "":
			return s3err.MalformedXML
		case o.VersionID != "" && o.VersionID != "null", o.ETag != nil, o.LastModifiedTime != nil, o.Size != nil:
			return s3err.NotImplemented.With("The embedded trial upstream has no versions, and deletes objects without conditions only.")
		}
		names[i] = o.Key
	}
	done, err := s.backend.DeleteMulti(bkt, names...)
	if err != nil {
		return err
	}
	var out deleteResult
	for _, o := range done.Deleted {
		if !request.Quiet {
			out.Deleted = append(out.Deleted, struct{ Key s3xml.Text }{s3xml.Text(o.Key)})
		}
	}
	for _, e := range done.Error {
		out.Error = append(out.Error, deleteError{s3xml.Text(e.Key), string(e.Code), e.Message})
	}
	return writeXML(w, out)
}

// uploadList is the answer to ListMultipartUploads.
type uploadList struct {
	XMLName            xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListMultipartUploadsResult"`
	Bucket             string
	KeyMarker          s3xml.Text
	UploadIDMarker     string     `xml:"UploadIdMarker"`
	NextKeyMarker      s3xml.Text `xml:",omitempty"`
	NextUploadIDMarker string     `xml:"NextUploadIdMarker,omitempty"`
	Prefix             s3xml.Text
	Delimiter          s3xml.Text `xml:",omitempty"`
	EncodingType       string     `xml:",omitempty"`
	MaxUploads         int64
	IsTruncated        bool
	Upload             []uploadEntry
	CommonPrefixes     []commonPrefixes
}

type uploadEntry struct {
	Key          s3xml.Text
	UploadID     string `xml:"UploadId"`
	StorageClass string
	Initiated    gofakes3.ContentTime
}

type commonPrefixes struct{ Prefix s3xml.Text }

// listUploads answers ListMultipartUploads.
func (s *Server) listUploads(w http.ResponseWriter, bkt string, query url.Values) error {
	if exists, err := s.backend.BucketExists(bkt); err != nil {
		return err
	} else if !exists {
		return noSuchBucket.About("BucketName", bkt)
	}
	most := int64(maxUploads)
	if v := query.Get("max-uploads"); v != "" {
		n, err := strconv.ParseInt(v, 10, 32)
		if err != nil || n < 0 {
			return s3err.InvalidArgument.With("Provided max-uploads not an integer or within integer range").About("ArgumentName", "max-uploads")
		}
		most = min(n, most)
	}
	name := func(text string) s3xml.Text { return s3xml.Text(text) }
	switch query.Get("encoding-type") {
	case "":
	case "url":
		name = func(text string) s3xml.Text { return s3xml.Text(s3utils.EncodePath(text)) }
	default:
		return s3err.InvalidArgument.With("Invalid Encoding Method specified in Request").About("ArgumentName", "encoding-type")
	}
	var marker *gofakes3.UploadListMarker
	if v := query.Get("key-marker"); v != "" {
		marker = &gofakes3.UploadListMarker{Object: v, UploadID: gofakes3.UploadID(query.Get("upload-id-marker"))}
	}
	found, err := s.backend.ListMultipartUploads(bkt, marker, gofakes3.Prefix{Prefix: query.Get("prefix"), Delimiter: query.Get("delimiter")}, most)
	if err != nil {
		return err
	}
	out := uploadList{Bucket: bkt, KeyMarker: name(found.KeyMarker), UploadIDMarker: string(found.UploadIDMarker), NextKeyMarker: name(found.NextKeyMarker),
		NextUploadIDMarker: string(found.NextUploadIDMarker), Prefix: name(found.Prefix), Delimiter: name(found.Delimiter), EncodingType: query.Get("encoding-type"), MaxUploads: most, IsTruncated: found.IsTruncated}
	for _, u := range found.Uploads {
		out.Upload = append(out.Upload, uploadEntry{name(u.Key), string(u.UploadID), "STANDARD", u.Initiated})
	}
	for _, p := range found.CommonPrefixes {
		out.CommonPrefixes = append(out.CommonPrefixes, commonPrefixes{name(p.Prefix)})
	}
	return writeXML(w, out)
}

// renamer puts a key that gofakes3 has written with U+FFFD in it right: the one that the request
// is about, in the answers to CreateMultipartUpload, ListParts and CompleteMultipartUpload.
type renamer struct {
	http.ResponseWriter
	name     string
	document bytes.Buffer
}

// withName returns w, or a writer in front of it if gofakes3 cannot write the name. The caller
// calls finish at the end.
func withName(w http.ResponseWriter, r *http.Request, name string) (out http.ResponseWriter, finish func()) {
	query := r.URL.Query()
	if s3xml.Holds(name) || !query.Has("uploads") && !query.Has("uploadId") {
		return w, func() {}
	}
	n := &renamer{ResponseWriter: w, name: name}
	return n, n.finish
}

// Write implements http.ResponseWriter.
func (n *renamer) Write(p []byte) (int, error) { return n.document.Write(p) }

func (n *renamer) finish() {
	if n.document.Len() == 0 {
		return
	}
	var wrong strings.Builder
	_ = xml.EscapeText(&wrong, []byte(n.name)) // a builder does not fail
	_, _ = n.ResponseWriter.Write(bytes.ReplaceAll(n.document.Bytes(), []byte(wrong.String()), s3xml.AppendEscaped(nil, n.name)))
}
