//go:build tools

// Package tools makes KEDA's programs buildable: `go install` refuses a module that replaces another.
package tools

import (
	_ "github.com/kedacore/keda/v2/cmd/adapter"
	_ "github.com/kedacore/keda/v2/cmd/operator"
)
