package akigw

// DiskOp is a disk operation, by its usual name.
type DiskOp string

// The disk operations. DiskFree asks for the free space.
const (
	DiskMkdir   DiskOp = "mkdir"
	DiskCreate  DiskOp = "create"
	DiskOpen    DiskOp = "open"
	DiskRead    DiskOp = "read"
	DiskWrite   DiskOp = "write"
	DiskSync    DiskOp = "sync"
	DiskSyncDir DiskOp = "sync_dir"
	DiskRename  DiskOp = "rename"
	DiskRemove  DiskOp = "remove"
	DiskList    DiskOp = "list"
	DiskFree    DiskOp = "free"
)

// DiskOps lists all disk operations.
func DiskOps() []DiskOp {
	return []DiskOp{DiskMkdir, DiskCreate, DiskOpen, DiskRead, DiskWrite, DiskSync, DiskSyncDir, DiskRename, DiskRemove, DiskList, DiskFree}
}

// DiskFault is called before a disk operation on a file (by its path) or on a stored value (by its
// key). size is the number of bytes of a write. If it returns an error, the operation is not done,
// except that a write stores its first done bytes. It may block. It is safe for concurrent use.
type DiskFault func(op DiskOp, name string, size int) (done int, err error)
