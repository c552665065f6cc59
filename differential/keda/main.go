package main

import (
	_ "github.com/kedacore/keda/v2/apis/keda/v1alpha1"
	_ "github.com/kedacore/keda/v2/pkg/fallback"
	_ "github.com/kedacore/keda/v2/pkg/scaling/executor"
	_ "sigs.k8s.io/controller-runtime/pkg/client/fake"
)

func main() {}
