package codec

import "hash/crc32"

// Checksum is the CRC32C (Castagnoli) of b: the checksum of all that the gateway keeps on disk.
func Checksum(b []byte) uint32 { return UpdateChecksum(0, b) }

// UpdateChecksum is the checksum of some bytes and of b behind them, where sum is that of the bytes.
func UpdateChecksum(sum uint32, b []byte) uint32 {
	return crc32.Update(sum, crc32.MakeTable(crc32.Castagnoli), b) // the table is made once in a process
}
