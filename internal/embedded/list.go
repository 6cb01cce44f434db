package embedded

import (
	"strings"

	"github.com/johannesboyne/gofakes3"
)

// afterPrefix is a byte behind every byte of valid UTF-8: seeking to
// prefix+afterPrefix passes all keys below prefix.
const afterPrefix = "\xff"

// ListBucket implements ListObjects' rules: keys and common prefixes count
// together to the page size, in byte order, and a page never ends inside a
// common prefix.
func (b *backend) ListBucket(name string, prefix *gofakes3.Prefix, page gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	list := gofakes3.NewObjectList()
	want, delimiter := "", ""
	if prefix != nil {
		want, delimiter = prefix.Prefix, prefix.Delimiter
	}
	seek := want
	if page.HasMarker && page.Marker >= want {
		seek = page.Marker + "\x00"
		if cp := commonPrefix(page.Marker, want, delimiter); cp == page.Marker && cp != "" {
			seek = cp + afterPrefix
		}
	}
	count := int64(0)
	for last := ""; ; {
		var stop, skip bool
		err := eachValue(b.index, []byte(objectPrefix+name+"\x00"), []byte(seek), func(raw []byte, r *record) bool {
			key := string(raw)
			if !strings.HasPrefix(key, want) {
				stop = true
				return false
			}
			if count >= page.MaxKeys {
				stop = true
				list.IsTruncated, list.NextMarker = page.MaxKeys > 0, last
				return false
			}
			count++
			if cp := commonPrefix(key, want, delimiter); cp != "" {
				list.AddPrefix(cp)
				last, seek, skip = cp, cp+afterPrefix, true
				return false
			}
			last = key
			list.Add(&gofakes3.Content{Key: key, LastModified: gofakes3.NewContentTime(r.Modified), ETag: `"` + r.ETag + `"`, Size: r.Size, StorageClass: gofakes3.StorageStandard})
			return true
		})
		if err != nil || stop || !skip {
			return list, err
		}
	}
}

// commonPrefix returns the common prefix that a key rolls up into, "" if none.
func commonPrefix(key, prefix, delimiter string) string {
	if delimiter == "" || !strings.HasPrefix(key, prefix) {
		return ""
	}
	i := strings.Index(key[len(prefix):], delimiter)
	if i < 0 {
		return ""
	}
	return key[:len(prefix)+i+len(delimiter)]
}
