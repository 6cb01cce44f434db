package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/akidb/akigw/internal/pack"
	"github.com/akidb/akigw/internal/size"
)

// packCommand is "akigw pack".
type packCommand struct {
	List packList `cmd:"" help:"List the objects of a pack."`
	Get  packGet  `cmd:"" help:"Write one object of a pack to a file."`
}

// packFile is a pack on disk.
type packFile struct {
	File string `arg:"" help:"Pack file, downloaded from the upstream." type:"existingfile"`
}

// open opens the pack and reads its index.
func (p *packFile) open() (f *os.File, objects []pack.Object, err error) {
	if f, err = os.Open(p.File); err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil {
		objects, err = pack.ReadIndex(f, info.Size())
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", p.File, err), f.Close())
	}
	return f, objects, nil
}

type packList struct {
	packFile
	JSON bool `name:"json" help:"Print JSON."`
}

// Run lists a pack.
func (p *packList) Run() error {
	f, objects, err := p.open()
	if err != nil {
		return err
	}
	defer f.Close()
	if p.JSON {
		return printJSON(objects)
	}
	return table([]string{"OBJECT", "SIZE", "OFFSET", "MODIFIED", "ETAG"}, objects, func(o pack.Object) []any {
		return []any{fmt.Sprintf("%q", o.Name), size.Human(o.Size), o.Offset, o.Modified.Format(time.DateTime), o.ETag}
	})
}

type packGet struct {
	packFile
	Name string `arg:"" help:"Name of the object, as listed."`
	To   string `arg:"" help:"File to write, which must not exist; - for standard output." placeholder:"FILE"`
}

// Run writes an object.
func (p *packGet) Run() error {
	f, objects, err := p.open()
	if err != nil {
		return err
	}
	defer f.Close()
	for _, o := range objects {
		if o.Name == p.Name {
			return writeNew(p.To, io.NewSectionReader(f, o.Offset, o.Size))
		}
	}
	return fmt.Errorf("%s has no object %q: see akigw pack list", p.File, p.Name)
}

// writeNew copies to a new file, or to standard output for "-". An existing file is an error.
func writeNew(to string, body io.Reader) error {
	if to == "-" {
		_, err := io.Copy(os.Stdout, body)
		return err
	}
	f, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, body)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(to))
	}
	fmt.Printf("wrote %d bytes to %s\n", n, to)
	return nil
}
