package main

import (
	"encoding/json"
	"fmt"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/autoscaling"
	_ "k8s.io/kubernetes/pkg/apis/autoscaling/install"
	"k8s.io/kubernetes/pkg/apis/autoscaling/validation"
)

// admit does to a manifest what the API server does: read, default, validate, write.
func admit(manifest json.RawMessage) (*autoscalingv2.HorizontalPodAutoscaler, json.RawMessage, error) {
	var hpa autoscalingv2.HorizontalPodAutoscaler
	if err := json.Unmarshal(manifest, &hpa); err != nil {
		return nil, nil, err
	}
	hpa.Name, hpa.Namespace = "hpa", metav1.NamespaceDefault
	legacyscheme.Scheme.Default(&hpa)
	var internal autoscaling.HorizontalPodAutoscaler
	if err := legacyscheme.Scheme.Convert(hpa.DeepCopy(), &internal, nil); err != nil {
		return nil, nil, err
	}
	// As the API server sets them with its default feature gates.
	options := validation.HorizontalPodAutoscalerSpecValidationOptions{
		ObjectMetricsValidationOptions: validation.CrossVersionObjectReferenceValidationOptions{
			AllowEmptyAPIGroup: true,
		},
	}
	if errs := validation.ValidateHorizontalPodAutoscaler(&internal, options); len(errs) > 0 {
		return nil, nil, errs.ToAggregate()
	}
	spec, err := json.Marshal(hpa.Spec)
	if err != nil {
		return nil, nil, err
	}
	// Quantities change their precision on the way through the store, so what is stored is read again.
	hpa.Spec = autoscalingv2.HorizontalPodAutoscalerSpec{}
	if err := json.Unmarshal(spec, &hpa.Spec); err != nil {
		return nil, nil, fmt.Errorf("stored specification: %w", err)
	}
	return &hpa, spec, nil
}
