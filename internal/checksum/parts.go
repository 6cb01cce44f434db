package checksum

import (
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/minio/minio-go/v7"
)

// The types of the checksum of an object that was uploaded in parts (x-amz-checksum-type).
const (
	Composite  = "COMPOSITE"   // the checksum of the parts' checksums
	FullObject = "FULL_OBJECT" // the checksum of the bytes
)

// combinable lists, by algorithm, the types to which checksums of parts can be combined, the default
// first, and the algorithm in minio-go ("Checking object integrity").
var combinable = map[string]struct {
	types []string
	minio minio.ChecksumType
}{
	"CRC64NVME": {[]string{FullObject}, minio.ChecksumCRC64NVME},
	"CRC32":     {[]string{Composite, FullObject}, minio.ChecksumCRC32},
	"CRC32C":    {[]string{Composite, FullObject}, minio.ChecksumCRC32C},
	"SHA1":      {[]string{Composite}, minio.ChecksumSHA1},
	"SHA256":    {[]string{Composite}, minio.ChecksumSHA256},
}

// Types returns the types of checksum that an object of several parts can have, the default first, and
// none for an algorithm whose checksums cannot be combined.
func (a Algorithm) Types() []string { return combinable[a.Name].types }

// Part is the checksum of a part, as in a header, and its size in bytes.
type Part struct {
	Value string
	Size  int64
}

// OfParts combines the checksums of parts into that of the object, of some type, as in a header.
func (a Algorithm) OfParts(how string, parts []Part) (string, error) {
	if how == Composite {
		h := a.New()
		for _, p := range parts {
			raw, ok := a.Parse(p.Value)
			if !ok {
				return "", fmt.Errorf("%q is not a %s checksum", p.Value, a.Name)
			}
			h.Write(raw)
		}
		return base64.StdEncoding.EncodeToString(h.Sum(nil)) + "-" + strconv.Itoa(len(parts)), nil
	}
	all := make([]minio.ObjectPart, len(parts))
	for i, p := range parts {
		all[i] = minio.ObjectPart{PartNumber: i + 1, Size: p.Size}
		switch a.Name {
		case "CRC32":
			all[i].ChecksumCRC32 = p.Value
		case "CRC32C":
			all[i].ChecksumCRC32C = p.Value
		case "CRC64NVME":
			all[i].ChecksumCRC64NVME = p.Value
		}
	}
	sum, err := combinable[a.Name].minio.FullObjectChecksum(all)
	if err != nil {
		return "", err
	}
	return sum.Encoded(), nil
}
