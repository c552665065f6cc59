//! An external scaler for KEDA, over gRPC.
