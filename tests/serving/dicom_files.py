"""Synthetic DICOM files."""

import io

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, VLPhotographicImageStorage, generate_uid


def photograph(
    image: Image.Image, *, sop_class=VLPhotographicImageStorage, jpeg=False, patient="Test^Patient"
) -> bytes:
    """Return a DICOM file with an RGB image."""
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = sop_class, generate_uid()
    data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.PatientName, data.PatientID, data.Modality = patient, "17", "XC"
    data.Rows, data.Columns = image.height, image.width
    data.SamplesPerPixel, data.BitsAllocated, data.BitsStored, data.HighBit = 3, 8, 8, 7
    data.PixelRepresentation = data.PlanarConfiguration = 0
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = sop_class, data.SOPInstanceUID
    if jpeg:
        from pydicom.encaps import encapsulate

        out = io.BytesIO()
        image.save(out, format="JPEG", quality=95)
        meta.TransferSyntaxUID = JPEGBaseline8Bit
        data.PhotometricInterpretation = "YBR_FULL_422"
        data.PixelData = encapsulate([out.getvalue()])
        data["PixelData"].is_undefined_length = True
    else:
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.PhotometricInterpretation = "RGB"
        content = np.asarray(image).tobytes()
        data.PixelData = content + b"\0" * (len(content) % 2)
    data.file_meta = meta
    out = io.BytesIO()
    data.save_as(out, enforce_file_format=True)
    return out.getvalue()
