package gateway

import (
	"bytes"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/writeback"
)

// listMultipartUploads answers ListMultipartUploads with the uploads in the upstream and in the
// journal. For each key, those in the upstream come first.
func (g *listings) listMultipartUploads(w *answer, c *call, id sigv4.Identity) error {
	local := g.Writes.Uploads.Of(c.key.Bucket)
	if len(local) == 0 && !g.Reserved.in(c.key.Bucket) && !writeback.Local(c.query.Get("upload-id-marker")) {
		return g.forward.pass(w, c, id)
	}
	q, err := parseList(c)
	if err != nil {
		return err
	}
	q.max = pageSize(c.query.Get("max-uploads"))
	items, truncated, err := g.upstreamUploads(c, q)
	if err != nil {
		return err
	}
	end := "" // the upstream's uploads after this key are unknown; "": all are known
	if truncated && len(items) > 0 {
		end = items[len(items)-1].name
	}
	items = append(items, q.localUploads(local, end)...)
	slices.SortStableFunc(items, func(a, b uploadItem) int { return strings.Compare(a.name, b.name) })
	items = slices.CompactFunc(items, func(a, b uploadItem) bool { return a.prefix && b.prefix && a.name == b.name })
	truncated = truncated || len(items) > q.max
	sendDocument(w, q.uploadsDocument(items[:min(len(items), q.max)], truncated))
	return nil
}

// localUploads returns the items for uploads in the journal, sorted by key, after the markers of a
// request, up to the key end; "" means no end.
func (q *listRequest) localUploads(local []*writeback.Upload, end string) (items []uploadItem) {
	key, marker := q.call.query.Get("key-marker"), q.call.query.Get("upload-id-marker")
	passed := !writeback.Local(marker) // the upload of the marker has been passed, or is not in the journal
	for _, u := range local {
		name := u.Key.Name
		if !strings.HasPrefix(name, q.prefix) || name < key || name == key && key != "" && (marker == "" || !passed) {
			passed = passed || u.ID == marker
			continue
		}
		if end != "" && name > end {
			break
		}
		item := uploadItem{name: name, id: u.ID, upload: u}
		if p := q.common(name); p != "" {
			if strings.HasPrefix(key, p) {
				continue
			}
			item = uploadItem{name: p, prefix: true}
		}
		items = append(items, item)
	}
	return items
}

// uploadItem is an item of a listing of uploads: an upload or a common prefix.
type uploadItem struct {
	name   string
	prefix bool
	id     string
	raw    []byte            // upstream: the elements of Upload without Key
	upload *writeback.Upload // in the journal; nil: upstream
}

// upstreamUploads asks the upstream for its uploads after the markers of a call. Those of vector
// collections are skipped.
func (g *listings) upstreamUploads(c *call, q *listRequest) (items []uploadItem, truncated bool, err error) {
	query := maps.Clone(c.query)
	query.Set("encoding-type", "url")
	if writeback.Local(c.query.Get("upload-id-marker")) {
		query.Del("upload-id-marker") // the upstream's uploads of that key have been listed
	}
	items, truncated, err = g.fetchUploads(c, query)
	if err == nil && truncated && len(items) > 0 && g.Reserved.covers(c.key.Bucket, items[len(items)-1].name) {
		query.Set("key-marker", g.Reserved.last())
		query.Del("upload-id-marker")
		var more []uploadItem
		more, truncated, err = g.fetchUploads(c, query)
		items = append(items, more...)
	}
	items = slices.DeleteFunc(items, func(item uploadItem) bool { return g.Reserved.covers(c.key.Bucket, item.name) })
	return items, truncated, err
}

// fetchUploads asks the upstream for a page of its uploads.
func (g *listings) fetchUploads(c *call, query url.Values) (items []uploadItem, truncated bool, err error) {
	request := c.upstreamRequest()
	request.Query = query
	var list struct {
		IsTruncated  bool
		EncodingType string
		Upload       []struct {
			Key      string
			UploadID string `xml:"UploadId"`
			Raw      []byte `xml:",innerxml"`
		}
		CommonPrefixes []struct{ Prefix string }
	}
	if err := g.forward.ask(c, request, "ListMultipartUploadsResult", &list); err != nil {
		return nil, false, err
	}
	name := func(s string) string { return decodedName(s, list.EncodingType) }
	for _, u := range list.Upload {
		items = append(items, uploadItem{name: name(u.Key), id: u.UploadID, raw: withoutKey(u.Raw)})
	}
	for _, p := range list.CommonPrefixes {
		items = append(items, uploadItem{name: name(p.Prefix), prefix: true})
	}
	slices.SortStableFunc(items, func(a, b uploadItem) int { return strings.Compare(a.name, b.name) })
	return items, list.IsTruncated, nil
}

// uploadsDocument writes a page of uploads.
func (q *listRequest) uploadsDocument(items []uploadItem, truncated bool) []byte {
	c := q.call
	var b bytes.Buffer
	b.WriteString(s3xml.Header + `<ListMultipartUploadsResult xmlns="` + namespace + `">`)
	element(&b, "Bucket", c.key.Bucket)
	element(&b, "KeyMarker", encodedName(c, c.query.Get("key-marker")))
	element(&b, "UploadIdMarker", c.query.Get("upload-id-marker"))
	if truncated && len(items) > 0 {
		last := items[len(items)-1]
		element(&b, "NextKeyMarker", encodedName(c, last.name))
		element(&b, "NextUploadIdMarker", last.id)
	}
	element(&b, "Prefix", encodedName(c, q.prefix))
	if q.delimiter != "" {
		element(&b, "Delimiter", encodedName(c, q.delimiter))
	}
	if q.encoded {
		element(&b, "EncodingType", "url")
	}
	element(&b, "MaxUploads", strconv.Itoa(q.max))
	element(&b, "IsTruncated", strconv.FormatBool(truncated && len(items) > 0))
	for _, item := range items {
		if item.prefix {
			continue
		}
		b.WriteString("<Upload>")
		element(&b, "Key", encodedName(c, item.name))
		if u := item.upload; u != nil {
			element(&b, "UploadId", u.ID)
			element(&b, "StorageClass", storageClass(u.Header))
			element(&b, "Initiated", u.Begun.UTC().Format(listTime))
			describeChecksum(&b, u.Header)
		}
		b.Write(item.raw)
		b.WriteString("</Upload>")
	}
	for _, item := range items {
		if item.prefix {
			b.WriteString("<CommonPrefixes>")
			element(&b, "Prefix", encodedName(c, item.name))
			b.WriteString("</CommonPrefixes>")
		}
	}
	b.WriteString("</ListMultipartUploadsResult>")
	return b.Bytes()
}
