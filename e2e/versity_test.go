package e2e

import (
	"context"
	"os"
	"path/filepath"

	"github.com/versity/versitygw/backend/meta"
	"github.com/versity/versitygw/backend/posix"
	"github.com/versity/versitygw/embedgw"
)

// runVersity serves a directory as S3 with versitygw's posix backend.
func runVersity(dir, addr string) error {
	root, side, versions := filepath.Join(dir, "root"), filepath.Join(dir, "meta"), ""
	if os.Getenv("AKIGW_E2E_VERSIONS") != "" {
		versions = filepath.Join(dir, "versions")
	}
	for _, d := range []string{root, side, versions} {
		if d == "" {
			continue
		}
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	metadata, err := meta.NewSideCar(side)
	if err != nil {
		return err
	}
	backend, err := posix.New(root, metadata, posix.PosixOpts{SideCarDir: side, VersioningDir: versions, CopyObjectThreshold: 5 << 30})
	if err != nil {
		return err
	}
	return embedgw.RunVersityGW(context.Background(), backend, &embedgw.Config{
		RootUserAccess: upstreamAccessKey, RootUserSecret: upstreamSecretKey, Region: region, Ports: []string{addr},
		MaxConnections: 1000, MaxRequests: 1000, MultipartMaxParts: 10000, Quiet: true, KeepAlive: true,
	})
}
