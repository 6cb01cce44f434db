package sigv4

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of a key pair in characters.
const (
	minSecret    = 8
	maxSecret    = 128
	minAccessKey = 3
	maxAccessKey = 128 // IAM's
)

// wellKnown reports whether an access key or a secret is a default of other products, which attackers try first.
func wellKnown(value string) bool {
	switch value {
	case "minioadmin", "minio123", "rustfsadmin", "password", "accesskey", "secretkey", "admin123", "12345678":
		return true
	default:
		return false
	}
}

// CheckPair returns what is wrong with a key pair that an operator chose, nil if nothing is.
func CheckPair(accessKey, secret string) error {
	switch {
	case len(accessKey) < minAccessKey || len(accessKey) > maxAccessKey:
		return fmt.Errorf("an access key id has %d to %d characters", minAccessKey, maxAccessKey)
	case strings.ContainsFunc(accessKey, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`/=,;"\`, r) }):
		return errors.New(`an access key id has printable characters without spaces, slashes, quotes, backslashes and any of =,;`)
	case len(secret) < minSecret || len(secret) > maxSecret:
		return fmt.Errorf("a secret access key must have at least %d characters and at most %d", minSecret, maxSecret)
	case wellKnown(strings.ToLower(accessKey)) || wellKnown(strings.ToLower(secret)) || accessKey == secret:
		return errors.New("the key pair is a well-known default, which attackers try first; choose another")
	}
	return nil
}
