package gateway

import (
	"bytes"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/writeback/overlay"
)

// upstreamList is a page of the upstream's listing.
type upstreamList struct {
	IsTruncated  bool
	EncodingType string
	Contents     []struct {
		Key string
		Raw []byte `xml:",innerxml"`
	}
	CommonPrefixes []struct{ Prefix string }
}

// upstreamPage asks the upstream for up to max items after q.after that have not been sent.
func (g *listings) upstreamPage(q *listRequest, max int) (items []listItem, truncated bool, err error) {
	items, truncated, last, err := g.fetchPage(q, q.after, max)
	for range 2 { // the gateway's own keys are skipped, and those of vector collections
		next := g.beyondHidden(q.call.key.Bucket, last)
		if err != nil || !truncated || next == "" {
			break
		}
		var more []listItem
		more, truncated, last, err = g.fetchPage(q, next, max)
		items = append(items, more...)
	}
	if err == nil && truncated && len(items) == 0 {
		err = fmt.Errorf("%w: listing of %s: a page without new items claims that there are more", akigw.ErrUpstreamUnavailable, q.call.key.Bucket)
	}
	return items, truncated, err
}

// fetchPage asks the upstream for a page after a key. last is the last name of the page.
func (g *listings) fetchPage(q *listRequest, after string, max int) (items []listItem, truncated bool, last string, err error) {
	query := url.Values{"prefix": {q.prefix}, "max-keys": {strconv.Itoa(min(max+1, maxListKeys))}, "encoding-type": {"url"}}
	if q.delimiter != "" {
		query.Set("delimiter", q.delimiter)
	}
	if q.v2 {
		query.Set("list-type", "2")
		query.Set("start-after", after)
		if q.call.query.Has("fetch-owner") {
			query.Set("fetch-owner", q.call.query.Get("fetch-owner"))
		}
	} else {
		query.Set("marker", after)
	}
	for name, values := range query {
		if values[0] == "" {
			delete(query, name)
		}
	}
	request := q.call.upstreamRequest()
	request.Query = query
	var list upstreamList
	if err := g.forward.ask(q.call, request, "ListBucketResult", &list); err != nil {
		return nil, false, "", err
	}
	name := func(s string) string { return decodedName(s, list.EncodingType) }
	i, k := 0, 0
	for i < len(list.Contents) || k < len(list.CommonPrefixes) {
		var item listItem
		if k == len(list.CommonPrefixes) || i < len(list.Contents) && name(list.Contents[i].Key) < name(list.CommonPrefixes[k].Prefix) {
			item = listItem{name: name(list.Contents[i].Key), raw: withoutKey(list.Contents[i].Raw)}
			if t := g.Writes.Overlay.Translation(akigw.Key{Bucket: q.call.key.Bucket, Name: item.name}); t != nil {
				item.raw = promised(item.raw, t)
			}
			i++
		} else {
			item = listItem{name: name(list.CommonPrefixes[k].Prefix), prefix: true}
			k++
		}
		last = item.name
		if !q.sent(item) && !g.hidden(q.call.key.Bucket, item) {
			items = append(items, item)
		}
	}
	return items, list.IsTruncated, last, nil
}

// hidden reports whether an item of a bucket is the gateway's own or belongs to vector collections, or
// is a prefix of only such items.
func (g *listings) hidden(bucket string, item listItem) bool {
	return g.Reserved.covers(bucket, item.name) || strings.HasPrefix(item.name, overlay.ReservedPrefix) || item.prefix && item.name == strings.SplitAfter(overlay.ReservedPrefix, "/")[0]
}

// beyondHidden returns where a listing goes on after a hidden name, "" if the name is not hidden.
func (g *listings) beyondHidden(bucket, last string) string {
	switch {
	case strings.HasPrefix(last, overlay.ReservedPrefix):
		return beyond(overlay.ReservedPrefix)
	case g.Reserved.covers(bucket, last):
		return beyond(g.Reserved.Prefix)
	}
	return ""
}

// withoutKey returns the elements of Contents without Key.
func withoutKey(raw []byte) []byte {
	from, to := bytes.Index(raw, []byte("<Key>")), bytes.Index(raw, []byte("</Key>"))
	if from < 0 || to < from {
		return raw
	}
	return append(bytes.Clone(raw[:from]), raw[to+len("</Key>"):]...)
}

// pendingContents returns the elements of Contents for a pending key, without Key.
func pendingContents(p overlay.Change) []byte {
	var b bytes.Buffer
	element(&b, "LastModified", p.Modified.UTC().Format(listTime))
	element(&b, "ETag", p.ETag)
	element(&b, "Size", strconv.FormatInt(p.Size, 10))
	element(&b, "StorageClass", "STANDARD")
	return b.Bytes()
}
